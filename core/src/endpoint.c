// SPDX-License-Identifier: PostgreSQL
/*
 * endpoint.c - endpoint texts and tokens.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "endpoint.h"
#include "fastwake.h"

#define PREFIX "fastwake/1 "

void fw_hex_encode(char *text, const uint8_t *data, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[data[i] >> 4];
		text[2 * i + 1] = digits[data[i] & 15];
	}
	text[2 * n] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int fw_token_make(uint8_t token[FW_TOKEN_BYTES])
{
	ssize_t n;

	do {
		n = getrandom(token, FW_TOKEN_BYTES, 0);
	} while (n < 0 && errno == EINTR);
	return n == FW_TOKEN_BYTES ? 0 : -EIO;
}

bool fw_token_equal(const uint8_t *a, const uint8_t *b)
{
	const volatile uint8_t *x = a, *y = b;
	unsigned int difference = 0;

	for (size_t i = 0; i < FW_TOKEN_BYTES; i++)
		difference |= (unsigned int)(x[i] ^ y[i]);
	return difference == 0;
}

int fw_address_parse(union fw_address *address, const char *text)
{
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &address->in.sin_addr) == 1) {
		address->in.sin_family = AF_INET;
		return 0;
	}
	if (inet_pton(AF_INET6, text, &address->in6.sin6_addr) == 1) {
		address->in6.sin6_family = AF_INET6;
		return 0;
	}
	return -EINVAL;
}

void fw_address_format(const struct sockaddr *address, char *text)
{
	const void *bytes = NULL;

	if (address->sa_family == AF_INET)
		bytes = &((const struct sockaddr_in *)(const void *)address)
				 ->sin_addr;
	else if (address->sa_family == AF_INET6)
		bytes = &((const struct sockaddr_in6 *)(const void *)address)
				 ->sin6_addr;
	if (bytes == NULL || inet_ntop(address->sa_family, bytes, text,
				       INET6_ADDRSTRLEN) == NULL)
		text[0] = '\0';
}

socklen_t fw_address_size(const union fw_address *address)
{
	return address->sa.sa_family == AF_INET6 ? sizeof(address->in6)
						 : sizeof(address->in);
}

static int format_rdma(const struct fw_endpoint *endpoint, char *text,
		       size_t size)
{
	char address[INET6_ADDRSTRLEN];
	bool six = endpoint->rdma.sa.sa_family == AF_INET6;

	/* The port is at the same place in both families. */
	fw_address_format(&endpoint->rdma.sa, address);
	return snprintf(text, size, " rdma=%s%s%s:%u", six ? "[" : "", address,
			six ? "]" : "", ntohs(endpoint->rdma.in.sin_port));
}

int fw_endpoint_format(const struct fw_endpoint *endpoint, char *text,
		       size_t size)
{
	char token[2 * FW_TOKEN_BYTES + 1];
	char rdma[INET6_ADDRSTRLEN + 32] = "";
	int n;

	fw_hex_encode(token, endpoint->token, FW_TOKEN_BYTES);
	if (endpoint->transports & FASTWAKE_TRANSPORT_RDMA)
		format_rdma(endpoint, rdma, sizeof(rdma));
	n = snprintf(
		text, size, PREFIX "token=%s ring=%" PRIu32 "%s%s%s", token,
		endpoint->ring_size, rdma,
		endpoint->transports & FASTWAKE_TRANSPORT_SHM ? " shm=@" : "",
		endpoint->transports & FASTWAKE_TRANSPORT_SHM ? endpoint->shm
							      : "");
	return n >= 0 && (size_t)n < size ? 0 : -ENOSPC;
}

/* Decimal without sign, blanks or leading zeros, at most MAX; else -1. */
static int64_t parse_number(const char *text, uint32_t max)
{
	uint64_t value = 0;

	if (*text < '1' || *text > '9')
		return -1;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value > max)
			return -1;
	}
	return (int64_t)value;
}

static const char *parse_token(struct fw_endpoint *endpoint, const char *value)
{
	if (strlen(value) != 2 * FW_TOKEN_BYTES)
		return "token of wrong length";
	for (size_t i = 0; i < FW_TOKEN_BYTES; i++) {
		int high = hex_digit(value[2 * i]);
		int low = hex_digit(value[2 * i + 1]);

		if (high < 0 || low < 0)
			return "token is not hexadecimal";
		endpoint->token[i] = (uint8_t)(high << 4 | low);
	}
	return NULL;
}

static const char *parse_ring(struct fw_endpoint *endpoint, const char *value)
{
	int64_t size = parse_number(value, FASTWAKE_RING_MAX);

	if (size < FASTWAKE_RING_MIN || (size & (size - 1)) != 0)
		return "ring size out of range";
	endpoint->ring_size = (uint32_t)size;
	return NULL;
}

static const char *parse_rdma(struct fw_endpoint *endpoint, const char *value)
{
	char host[INET6_ADDRSTRLEN];
	const char *colon = strrchr(value, ':');
	bool six = value[0] == '[';
	size_t length;
	int64_t port;

	if (colon == NULL)
		return "rdma address without port";
	port = parse_number(colon + 1, UINT16_MAX);
	if (port < 0)
		return "rdma port out of range";
	if (six && (colon - value < 2 || colon[-1] != ']'))
		return "rdma address with unbalanced bracket";
	length = (size_t)(colon - value) - (six ? 2 : 0);
	if (length >= sizeof(host))
		return "rdma address too long";
	memcpy(host, value + (six ? 1 : 0), length);
	host[length] = '\0';
	if (fw_address_parse(&endpoint->rdma, host) != 0 ||
	    (endpoint->rdma.sa.sa_family == AF_INET6) != six)
		return "rdma address is not a numeric address";
	endpoint->rdma.in.sin_port = htons((uint16_t)port);
	endpoint->transports |= FASTWAKE_TRANSPORT_RDMA;
	return NULL;
}

static const char *parse_shm(struct fw_endpoint *endpoint, const char *value)
{
	size_t length = strlen(value);

	if (length < 2 || length > FW_SHM_NAME || value[0] != '@')
		return "shm name of wrong form";
	for (const char *p = value + 1; *p != '\0'; p++)
		if (hex_digit(*p) < 0 && *p != '-' && !(*p >= 'a' && *p <= 'z'))
			return "shm name with a wrong character";
	memcpy(endpoint->shm, value + 1, length);
	endpoint->transports |= FASTWAKE_TRANSPORT_SHM;
	return NULL;
}

static const struct {
	const char *key;
	const char *(*parse)(struct fw_endpoint *, const char *);
} fields[] = {
	{ "token", parse_token },
	{ "ring", parse_ring },
	{ "rdma", parse_rdma },
	{ "shm", parse_shm },
};

#define FIELDS	  (sizeof(fields) / sizeof(fields[0]))
#define MANDATORY 3u /* token and ring */

/* One KEY=VALUE; SEEN is the set of fields that were there already. */
static const char *parse_field(struct fw_endpoint *endpoint, char *field,
			       unsigned int *seen)
{
	char *value = strchr(field, '=');

	if (value == NULL)
		return "field without value";
	*value++ = '\0';
	for (unsigned int i = 0; i < FIELDS; i++) {
		if (strcmp(field, fields[i].key) != 0)
			continue;
		if (*seen & 1u << i)
			return "field given twice";
		*seen |= 1u << i;
		return fields[i].parse(endpoint, value);
	}
	return "unknown field";
}

static const char *parse_fields(struct fw_endpoint *endpoint, char *text)
{
	unsigned int seen = 0;
	const char *why = NULL;
	char *next = text;

	while (next != NULL && why == NULL) {
		char *field = next;

		next = strchr(field, ' ');
		if (next != NULL)
			*next++ = '\0';
		why = parse_field(endpoint, field, &seen);
	}
	if (why == NULL && (seen & MANDATORY) != MANDATORY)
		why = "field missing";
	return why;
}

int fw_endpoint_parse(struct fw_endpoint *endpoint, const char *text,
		      const char **why)
{
	char copy[FASTWAKE_ENDPOINT_MAX];
	size_t length = strnlen(text, sizeof(copy));

	memset(endpoint, 0, sizeof(*endpoint));
	if (length == sizeof(copy)) {
		*why = "too long";
		return -EPROTO;
	}
	if (strncmp(text, PREFIX, strlen(PREFIX)) != 0) {
		*why = "not an endpoint, or of another version";
		return -EPROTO;
	}
	memcpy(copy, text, length + 1);
	*why = parse_fields(endpoint, copy + strlen(PREFIX));
	return *why == NULL ? 0 : -EPROTO;
}
