/* SPDX-License-Identifier: Apache-2.0
 * ops.h: the API's description as the program carries it. */
#ifndef UNLEARND_API_OPS_H
#define UNLEARND_API_OPS_H

#include <stddef.h>

extern const unsigned char openapi_json[];
extern const size_t openapi_json_len;

#endif
