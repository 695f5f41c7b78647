/* SPDX-License-Identifier: Apache-2.0
 * checkpoint.c: writes and reads the safetensors files of checkpoint.h. It must not know how the
 * parameters were trained, nor which tensors a model has.
 *
 * There is one way to write a given checkpoint, so reading is strict in the simplest way: the
 * header is parsed, bounded and then written again, and a file whose header is not byte for byte
 * what would have been written is refused. Field order, number forms, padding and gaps need no
 * checks of their own. */
#include "lib/checkpoint/checkpoint.h"
#include "lib/util/bytes.h"
#include "lib/util/file.h"
#include "lib/util/json.h"
#include "lib/util/limits.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char format_name[] = "unlearnd.checkpoint.v1";

enum {
        PREFIX_BYTES = 8,         /* the header's length */
        HEADER_MAX = 1024 * 1024, /* far over 24 tensors; a hostile length stops here */
        DATA_ALIGN = 64,          /* the data block starts at a multiple of it */
        HEX_SIZE = 2 * SHA256_BYTES + 1,
        U32_SIZE = 11,
        U64_SIZE = 21,
};
/* All parameters of the largest constituent, and its mean and scale. */
static const uint64_t data_floats_max = (uint64_t)PARAMETERS_MAX + 2 * (uint64_t)FEATURES_MAX;

static uint64_t tensor_floats(const struct checkpoint_tensor *t)
{
        return (uint64_t)t->rows * (t->cols > 0 ? t->cols : 1);
}

static uint64_t data_bytes_of(const struct checkpoint *c)
{
        uint64_t floats = 0;
        for (uint32_t i = 0; i < c->tensor_count; i++)
                floats += tensor_floats(&c->tensors[i]);
        return floats * sizeof(float);
}

/* --- the header: writing --- */

static void put_hash(struct json_writer *w, const char *key, const uint8_t hash[SHA256_BYTES])
{
        jw_member_hex(w, key, hash, SHA256_BYTES);
}

/* safetensors allows only strings in its metadata. */
static void put_number(struct json_writer *w, const char *key, uint64_t v)
{
        char text[U64_SIZE];
        size_t at = sizeof text - 1;
        text[at] = '\0';
        do {
                text[--at] = (char)('0' + v % 10);
                v /= 10;
        } while (v > 0);
        jw_member_string(w, key, text + at);
}

static void put_metadata(struct json_writer *w, const struct checkpoint *c)
{
        jw_key(w, "__metadata__");
        jw_object(w);
        jw_member_string(w, "format", format_name);
        put_hash(w, "config_hash", c->config_hash);
        put_number(w, "shard", c->shard);
        put_number(w, "slice", c->slice);
        put_number(w, "stage", c->stage);
        put_hash(w, "parent", c->parent);
        put_hash(w, "retained", c->retained);
        put_number(w, "records", c->records);
        jw_member_string(w, "kernel", c->kernel);
        if (c->halvings > 0)
                put_number(w, "halvings", c->halvings);
        jw_end_object(w);
}

static void put_tensor(struct json_writer *w, const struct checkpoint_tensor *t, uint64_t at)
{
        jw_key(w, t->name);
        jw_object(w);
        jw_member_string(w, "dtype", "F32");
        jw_key(w, "shape");
        jw_array(w);
        jw_u64(w, t->rows);
        if (t->cols > 0)
                jw_u64(w, t->cols);
        jw_end_array(w);
        jw_key(w, "data_offsets");
        jw_array(w);
        jw_u64(w, at);
        jw_u64(w, at + tensor_floats(t) * sizeof(float));
        jw_end_array(w);
        jw_end_object(w);
}

/* Appends length, JSON and padding to an empty buffer. Look at out->failed. */
static void put_header(const struct checkpoint *c, struct buf *out)
{
        struct json_writer w;
        uint64_t at = 0;
        (void)buf_extend(out, PREFIX_BYTES);
        jw_init(&w, out);
        jw_object(&w);
        put_metadata(&w, c);
        for (uint32_t i = 0; i < c->tensor_count; i++) {
                put_tensor(&w, &c->tensors[i], at);
                at += tensor_floats(&c->tensors[i]) * sizeof(float);
        }
        jw_end_object(&w);
        while (!out->failed && out->len % DATA_ALIGN != 0)
                buf_append(out, " ", 1);
        if (!out->failed)
                put_le64(out->data, out->len - PREFIX_BYTES);
}

int checkpoint_write(const char *path, const struct checkpoint *c, uint8_t file_hash[SHA256_BYTES],
                     struct errinfo *e)
{
        assert(c->slice > 0 && c->tensor_count <= CHECKPOINT_TENSORS_MAX);
        assert((c->records == 0) == (c->tensor_count == 0));
        struct buf header = {0};
        uint8_t *file = NULL;
        size_t len = 0;
        int err = 0;

        buf_init(&header, PREFIX_BYTES + HEADER_MAX);
        put_header(c, &header);
        if (!header.failed) {
                len = header.len + (size_t)data_bytes_of(c);
                file = malloc(len);
        }
        if (file == NULL) {
                err = ul_fail(e, UL_NOMEM, "no memory to write a checkpoint");
                goto out;
        }
        size_t at = header.len;
        memcpy(file, header.data, at);
        for (uint32_t i = 0; i < c->tensor_count; i++) {
                size_t bytes = (size_t)tensor_floats(&c->tensors[i]) * sizeof(float);
                memcpy(file + at, c->tensors[i].data, bytes);
                at += bytes;
        }
        assert(at == len);
        sha256(file, len, file_hash);
        err = write_file_durably(path, file, len, e);
out:
        if (file != NULL)
                wipe(file, len);
        free(file);
        buf_free(&header, false);
        return err;
}

/* --- the header: reading --- */

static int corrupt(struct errinfo *e, const char *what)
{
        return ul_fail(e, UL_CORRUPT, "a checkpoint file is damaged: %s", what);
}

/* Texts of __metadata__, as they stand. */
struct metadata {
        char format[sizeof format_name];
        char config_hash[HEX_SIZE];
        char shard[U32_SIZE];
        char slice[U32_SIZE];
        char stage[U32_SIZE];
        char parent[HEX_SIZE];
        char retained[HEX_SIZE];
        char records[U64_SIZE];
        char kernel[CHECKPOINT_KERNEL_MAX];
        char halvings[U32_SIZE];
};

#define MAYBE(member, always)                                                                      \
        {                                                                                          \
                .name = #member, .type = JF_STRING, .offset = offsetof(struct metadata, member),   \
                .size = sizeof(((struct metadata *)0)->member), .required = always                 \
        }
#define TEXT(member) MAYBE(member, true)
static const struct json_field metadata_fields[] = {
        TEXT(format), TEXT(config_hash), TEXT(shard),   TEXT(slice),  TEXT(stage),
        TEXT(parent), TEXT(retained),    TEXT(records), TEXT(kernel), MAYBE(halvings, false),
};
#undef TEXT
#undef MAYBE

static bool read_number(const char *text, uint64_t max, uint64_t *out)
{
        uint64_t v = 0;
        if (*text == '\0')
                return false;
        for (; *text != '\0'; text++) {
                if (*text < '0' || *text > '9')
                        return false;
                uint64_t digit = (uint64_t)(*text - '0');
                if (v > (max - digit) / 10)
                        return false;
                v = v * 10 + digit;
        }
        *out = v;
        return true;
}

static bool read_u32(const char *text, uint32_t *out)
{
        uint64_t v;
        if (!read_number(text, UINT32_MAX, &v))
                return false;
        *out = (uint32_t)v;
        return true;
}

static bool read_hash(const char *text, uint8_t out[SHA256_BYTES])
{
        return hex_decode(text, strlen(text), out, SHA256_BYTES) == SHA256_BYTES;
}

static int read_metadata(const struct json *v, struct checkpoint *c, struct errinfo *e)
{
        struct metadata m = {0};
        if (json_type_of(v) != JSON_OBJECT ||
            json_decode(v, metadata_fields, sizeof metadata_fields / sizeof *metadata_fields, &m,
                        "/__metadata__", NULL) != 0)
                return corrupt(e, "its metadata is not what this version writes");
        if (strcmp(m.format, format_name) != 0)
                return corrupt(e, "its format is not known to this version");
        if (!read_hash(m.config_hash, c->config_hash) || !read_hash(m.parent, c->parent) ||
            !read_hash(m.retained, c->retained) || !read_u32(m.shard, &c->shard) ||
            !read_u32(m.slice, &c->slice) || !read_u32(m.stage, &c->stage) ||
            !read_number(m.records, UINT64_MAX, &c->records))
                return corrupt(e, "its metadata does not parse");
        c->halvings = 0;
        if (m.halvings[0] != '\0' && (!read_u32(m.halvings, &c->halvings) || c->halvings == 0))
                return corrupt(e, "its metadata does not parse");
        if (c->slice == 0 || c->stage == 0)
                return corrupt(e, "its slice or stage is out of range");
        memcpy(c->kernel, m.kernel, sizeof c->kernel);
        return 0;
}

static bool read_shape(const struct json *shape, struct checkpoint_tensor *t)
{
        int64_t n;
        if (json_type_of(shape) != JSON_ARRAY)
                return false;
        size_t dims = json_length(shape);
        if (dims < 1 || dims > 2)
                return false;
        const struct json *dim = json_first(shape);
        if (!json_integer(dim, 1, UINT32_MAX, &n))
                return false;
        t->rows = (uint32_t)n;
        t->cols = 0;
        if (dims == 1)
                return true;
        if (!json_integer(json_next(dim), 1, UINT32_MAX, &n))
                return false;
        t->cols = (uint32_t)n;
        return true;
}

/* The offsets are not read: the header is written again from the shapes and compared. */
static int read_tensor(const struct json *v, struct checkpoint *c, struct errinfo *e)
{
        const char *name = json_key(v);
        size_t len = strlen(name);
        if (c->tensor_count == CHECKPOINT_TENSORS_MAX)
                return corrupt(e, "it has too many tensors");
        struct checkpoint_tensor *t = &c->tensors[c->tensor_count];
        if (len == 0 || len >= sizeof t->name)
                return corrupt(e, "a tensor's name is empty or too long");
        memcpy(t->name, name, len + 1);
        const struct json *dtype = json_type_of(v) == JSON_OBJECT ? json_get(v, "dtype") : NULL;
        if (dtype == NULL || json_type_of(dtype) != JSON_STRING ||
            strcmp(json_string(dtype), "F32") != 0)
                return corrupt(e, "a tensor is not of type F32");
        const struct json *shape = json_get(v, "shape");
        if (shape == NULL || !read_shape(shape, t))
                return corrupt(e, "a tensor's shape is not a vector's or a matrix's");
        if (tensor_floats(t) > data_floats_max)
                return corrupt(e, "a tensor is too large");
        c->tensor_count++; /* at most 24 tensors of bounded size: the sum cannot overflow */
        return 0;
}

static int read_members(const struct json *doc, struct checkpoint *c, struct errinfo *e)
{
        if (json_type_of(doc) != JSON_OBJECT)
                return corrupt(e, "its header is not an object");
        const struct json *v = json_first(doc);
        if (v == NULL || strcmp(json_key(v), "__metadata__") != 0)
                return corrupt(e, "its header does not begin with its metadata");
        int err = read_metadata(v, c, e);
        while (err == 0 && (v = json_next(v)) != NULL)
                err = read_tensor(v, c, e);
        if (err == 0 && (c->records == 0) != (c->tensor_count == 0))
                err = corrupt(e, "tensors without records, or records without tensors");
        return err;
}

/* file: prefix and header, as read. Fills everything but the data. */
static int read_header(const struct buf *file, struct checkpoint *c, struct errinfo *e)
{
        struct json *doc = NULL;
        struct buf again = {0};
        int err = 0;
        if (json_parse((const char *)file->data + PREFIX_BYTES, file->len - PREFIX_BYTES, &doc,
                       NULL) != 0) {
                err = corrupt(e, "its header is not JSON");
                goto out;
        }
        err = read_members(doc, c, e);
        if (err != 0)
                goto out;
        buf_init(&again, PREFIX_BYTES + HEADER_MAX);
        put_header(c, &again);
        if (again.failed)
                err = ul_fail(e, UL_NOMEM, "no memory to read a checkpoint");
        else if (again.len != file->len || memcmp(again.data, file->data, file->len) != 0)
                err = corrupt(e, "its header is not in the one form that is written");
out:
        buf_free(&again, false);
        json_free(&doc);
        return err;
}

/* --- reading the file --- */

/* Opens a regular file and tells its size. */
static int open_file(const char *path, int *fd, uint64_t *bytes, struct errinfo *e)
{
        struct stat st;
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (*fd < 0)
                return errno == ENOENT ? ul_fail(e, UL_NOT_FOUND, "a checkpoint file is missing")
                                       : ul_fail_errno(e, "open a checkpoint");
        if (fstat(*fd, &st) != 0)
                return ul_fail_errno(e, "stat a checkpoint");
        if (!S_ISREG(st.st_mode) || st.st_size < 0)
                return corrupt(e, "it is not a regular file");
        *bytes = (uint64_t)st.st_size;
        return 0;
}

static int read_prefix(int fd, uint64_t file_bytes, struct buf *out, struct errinfo *e)
{
        uint8_t prefix[PREFIX_BYTES];
        if (file_bytes < PREFIX_BYTES)
                return corrupt(e, "it is too short");
        int err = read_at(fd, prefix, sizeof prefix, 0, e);
        if (err != 0)
                return err;
        uint64_t n = get_le64(prefix);
        if (n > HEADER_MAX || n > file_bytes - PREFIX_BYTES)
                return corrupt(e, "its header's length is out of range");
        uint8_t *header = buf_extend(out, PREFIX_BYTES + (size_t)n);
        if (header == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to read a checkpoint");
        return read_at(fd, header, PREFIX_BYTES + (size_t)n, 0, e);
}

static int read_data(int fd, uint64_t at, struct checkpoint *c, struct errinfo *e)
{
        size_t bytes = (size_t)data_bytes_of(c);
        if (bytes == 0)
                return 0;
        size_t room = (bytes + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
        c->block = aligned_alloc(DATA_ALIGN, room);
        if (c->block == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a checkpoint's parameters");
        c->block_bytes = bytes;
        float *next = c->block;
        for (uint32_t i = 0; i < c->tensor_count; i++) {
                c->tensors[i].data = next;
                next += tensor_floats(&c->tensors[i]);
        }
        return read_at(fd, c->block, bytes, at, e);
}

int checkpoint_read(const char *path, const uint8_t expected[SHA256_BYTES], struct checkpoint *out,
                    uint8_t file_hash[SHA256_BYTES], struct errinfo *e)
{
        struct buf header = {0};
        struct sha256_state digest;
        uint64_t bytes = 0;
        int fd = -1;

        memset(out, 0, sizeof *out);
        buf_init(&header, PREFIX_BYTES + HEADER_MAX);
        int err = open_file(path, &fd, &bytes, e);
        if (err == 0)
                err = read_prefix(fd, bytes, &header, e);
        if (err == 0)
                err = read_header(&header, out, e);
        if (err == 0 && bytes != header.len + data_bytes_of(out))
                err = corrupt(e, "its size is not that of its tensors");
        if (err == 0)
                err = read_data(fd, header.len, out, e);
        if (err != 0)
                goto out;
        sha256_begin(&digest);
        sha256_add(&digest, header.data, header.len);
        if (out->block_bytes > 0)
                sha256_add(&digest, out->block, out->block_bytes);
        sha256_end(&digest, file_hash);
        if (expected != NULL && memcmp(expected, file_hash, SHA256_BYTES) != 0)
                err = corrupt(e, "its digest is not the one that was recorded");
out:
        if (err != 0)
                checkpoint_clear(out);
        if (fd >= 0)
                (void)close(fd); /* read only: nothing can be lost */
        buf_free(&header, false);
        return err;
}

void checkpoint_clear(struct checkpoint *c)
{
        if (c->block != NULL)
                wipe(c->block, c->block_bytes);
        free(c->block);
        memset(c, 0, sizeof *c);
}

void checkpoint_data_hash(const struct checkpoint *c, uint8_t out[SHA256_BYTES])
{
        struct sha256_state digest;
        sha256_begin(&digest);
        for (uint32_t i = 0; i < c->tensor_count; i++)
                sha256_add(&digest, c->tensors[i].data,
                           (size_t)tensor_floats(&c->tensors[i]) * sizeof(float));
        sha256_end(&digest, out);
}
