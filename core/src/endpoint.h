/* SPDX-License-Identifier: PostgreSQL */
/*
 * endpoint.h - the text that tells a peer where and how to connect.
 *
 *	fastwake/1 token=HEX32 ring=BYTES [rdma=ADDRESS:PORT] [shm=@NAME]
 */
#ifndef FASTWAKE_ENDPOINT_H
#define FASTWAKE_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define FW_TOKEN_BYTES 16
#define FW_SHM_NAME    48 /* bytes of an abstract socket's name with its NUL */

union fw_address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

struct fw_endpoint {
	uint8_t token[FW_TOKEN_BYTES];
	uint32_t ring_size;    /* of the listener */
	uint32_t transports;   /* set of FASTWAKE_TRANSPORT_* */
	union fw_address rdma; /* with port */
	char shm[FW_SHM_NAME]; /* without the '@' */
};

/* -ENOSPC if SIZE is too small. */
int fw_endpoint_format(const struct fw_endpoint *endpoint, char *text,
		       size_t size);

/* 0, or -EPROTO with the reason in *WHY.  The text is hostile. */
int fw_endpoint_parse(struct fw_endpoint *endpoint, const char *text,
		      const char **why);

/* Numeric IPv4 or IPv6 address (no brackets, no scope): 0 or -EINVAL. */
int fw_address_parse(union fw_address *address, const char *text);
/* Into a buffer of INET6_ADDRSTRLEN bytes; "" for other families. */
void fw_address_format(const struct sockaddr *address, char *text);
socklen_t fw_address_size(const union fw_address *address);

/* Fill with random bytes: 0 or -errno. */
int fw_token_make(uint8_t token[FW_TOKEN_BYTES]);
/* In time that does not depend on the content. */
bool fw_token_equal(const uint8_t *a, const uint8_t *b);

void fw_hex_encode(char *text, const uint8_t *data, size_t n);

#endif
