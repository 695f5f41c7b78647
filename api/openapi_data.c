/* SPDX-License-Identifier: Apache-2.0
 * openapi_data.c: the bytes of the API's description, taken into the program by the assembler. The
 * build defines OPENAPI_JSON_FILE, the path of openapi.yaml turned into JSON. */
#include "api/ops.h"

#ifndef OPENAPI_JSON_FILE
#error "the build defines OPENAPI_JSON_FILE"
#endif

__asm__(".section .rodata,\"a\",@progbits\n"
        ".global openapi_json\n"
        ".type openapi_json, @object\n"
        "openapi_json:\n"
        ".incbin \"" OPENAPI_JSON_FILE "\"\n"
        ".Lopenapi_json_end:\n"
        ".size openapi_json, .Lopenapi_json_end - openapi_json\n"
        ".balign 8\n"
        ".global openapi_json_len\n"
        ".type openapi_json_len, @object\n"
        ".size openapi_json_len, 8\n"
        "openapi_json_len:\n"
        ".quad .Lopenapi_json_end - openapi_json\n"
        ".previous\n");
