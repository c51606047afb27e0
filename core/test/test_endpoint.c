// SPDX-License-Identifier: PostgreSQL
/*
 * test_endpoint.c - endpoint texts: round trips, and what the parser refuses.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "endpoint.h"
#include "fastwake.h"
#include "tap.h"

#define TOKEN "000102030405060708090a0b0c0d0eff"
#define HEAD  "fastwake/1 token=" TOKEN " ring=65536"

static int parse(const char *text)
{
	struct fw_endpoint endpoint;
	const char *why = NULL;
	int rc = fw_endpoint_parse(&endpoint, text, &why);

	return rc != 0 && why == NULL ? -1 : rc;
}

/* Parse and format again: the text must come back. */
static void round_trip(const char *text, uint32_t transports)
{
	struct fw_endpoint endpoint;
	char again[FASTWAKE_ENDPOINT_MAX];
	const char *why;

	if (fw_endpoint_parse(&endpoint, text, &why) != 0) {
		tap_ok(0, "%s: %s", text, why);
		return;
	}
	tap_is(fw_endpoint_format(&endpoint, again, sizeof(again)), 0,
	       "formatted");
	tap_ok(strcmp(text, again) == 0, "round trip of %s", text);
	tap_is(endpoint.transports, transports, "transports");
}

static void test_round_trips(void)
{
	round_trip(HEAD " shm=@fastwake-0123abc", FASTWAKE_TRANSPORT_SHM);
	round_trip(HEAD " rdma=10.9.0.1:43210", FASTWAKE_TRANSPORT_RDMA);
	round_trip(HEAD " rdma=[fd00::12]:1", FASTWAKE_TRANSPORT_RDMA);
	round_trip(HEAD " rdma=[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
			" shm=@a",
		   FASTWAKE_TRANSPORT_RDMA | FASTWAKE_TRANSPORT_SHM);
	round_trip(HEAD, 0);
}

static void test_fields(void)
{
	struct fw_endpoint e;
	const char *why;
	char small[40], address[INET6_ADDRSTRLEN];

	fw_endpoint_parse(&e,
			  "fastwake/1 shm=@ab rdma=10.9.0.1:258 ring=1048576 "
			  "token=" TOKEN,
			  &why);
	tap_is(e.ring_size, 1048576, "ring size, fields in any order");
	tap_is(e.token[1], 1, "second byte of the token");
	tap_is(e.token[15], 255, "last byte of the token");
	tap_ok(strcmp(e.shm, "ab") == 0, "name of the socket");
	tap_is(ntohs(e.rdma.in.sin_port), 258, "port");
	fw_address_format(&e.rdma.sa, address);
	tap_ok(strcmp(address, "10.9.0.1") == 0, "address");
	tap_is(fw_endpoint_format(&e, small, sizeof(small)), -ENOSPC,
	       "no space for the text");
}

static const char *const malformed[] = {
	"",
	"fastwake/1",
	"fastwake/1 ",
	"fastwake/2 token=" TOKEN " ring=65536",
	"Fastwake/1 token=" TOKEN " ring=65536",
	" " HEAD,
	HEAD " ",
	"fastwake/1  token=" TOKEN " ring=65536",
	"fastwake/1 ring=65536",
	"fastwake/1 token=" TOKEN,
	"fastwake/1 token=" TOKEN " ring",
	"fastwake/1 token=" TOKEN " ring=",
	"fastwake/1 token=" TOKEN " ring=65537",
	"fastwake/1 token=" TOKEN " ring=32768",
	"fastwake/1 token=" TOKEN " ring=33554432",
	"fastwake/1 token=" TOKEN " ring=4295032832",
	"fastwake/1 token=" TOKEN " ring=99999999999999999999999",
	"fastwake/1 token=" TOKEN " ring=065536",
	"fastwake/1 token=" TOKEN " ring=+65536",
	"fastwake/1 token=" TOKEN " ring=-65536",
	"fastwake/1 token=" TOKEN " ring=0x10000",
	"fastwake/1 token=" TOKEN " ring=65536k",
	"fastwake/1 token=" TOKEN "0 ring=65536",
	"fastwake/1 token=00010203 ring=65536",
	"fastwake/1 token=000102030405060708090A0B0C0D0EFF ring=65536",
	"fastwake/1 token=g00102030405060708090a0b0c0d0eff ring=65536",
	HEAD " ring=65536",
	HEAD " token=" TOKEN,
	HEAD " shm=@a shm=@b",
	HEAD " shm=",
	HEAD " shm=@",
	HEAD " shm=fastwake",
	HEAD " shm=@fast/wake",
	HEAD " shm=@FAST",
	HEAD " shm=@0123456789012345678901234567890123456789012345678",
	HEAD " rdma=",
	HEAD " rdma=10.9.0.1",
	HEAD " rdma=10.9.0.1:",
	HEAD " rdma=10.9.0.1:0",
	HEAD " rdma=10.9.0.1:65536",
	HEAD " rdma=10.9.0.1:1:2",
	HEAD " rdma=10.9.0:1",
	HEAD " rdma=10.9.0.256:1",
	HEAD " rdma=localhost:1",
	HEAD " rdma=:1",
	HEAD " rdma=fd00::1:1",
	HEAD " rdma=[]:1",
	HEAD " rdma=[:1",
	HEAD " rdma=]:1",
	HEAD " rdma=[fd00::1]",
	HEAD " rdma=[fd00::1]1",
	HEAD " rdma=[fd00::1:1",
	HEAD " rdma=fd00::1]:1",
	HEAD " rdma=[10.9.0.1]:1",
	HEAD " rdma=[fe80::1%eth0]:1",
	HEAD " rdma=[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255:0]:1",
	HEAD " tcp=10.9.0.1:1",
	HEAD " =x",
	HEAD " shm=@a\n",
};

static void test_malformed(void)
{
	char text[2 * FASTWAKE_ENDPOINT_MAX];

	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
		tap_is(parse(malformed[i]), -EPROTO, "refused: '%.*s'",
		       (int)strcspn(malformed[i], "\n"), malformed[i]);
	strcpy(text, HEAD " shm=@");
	memset(text + strlen(text), 'a', sizeof(text) - strlen(text) - 1);
	text[sizeof(text) - 1] = '\0';
	tap_is(parse(text), -EPROTO, "refused: too long");
	text[FASTWAKE_ENDPOINT_MAX] = '\0';
	tap_is(parse(text), -EPROTO, "refused: just too long");
}

/* Whatever is cut off or changed, the parser must survive it. */
static void test_mutations(void)
{
	static const char good[] = HEAD " rdma=[fd00::12]:4321 shm=@fastwake-1";
	char text[sizeof(good)];
	unsigned int odd = 0;

	for (size_t i = 0; i < sizeof(good); i++) {
		for (int c = 1; c < 256; c++) {
			int rc;

			memcpy(text, good, sizeof(good));
			text[i] = (char)c;
			if (i == sizeof(good) - 1)
				text[i] = '\0';
			rc = parse(text);
			odd += rc != 0 && rc != -EPROTO;
		}
		memcpy(text, good, sizeof(good));
		text[i] = '\0';
		(void)parse(text);
	}
	tap_is(odd, 0, "every mutation of one byte is accepted or refused");
}

static void test_token(void)
{
	uint8_t a[FW_TOKEN_BYTES], b[FW_TOKEN_BYTES];
	unsigned int equal = 0;

	tap_is(fw_token_make(a), 0, "a token");
	tap_is(fw_token_make(b), 0, "another");
	tap_ok(!fw_token_equal(a, b), "they differ");
	tap_ok(fw_token_equal(a, a), "one is equal to itself");
	for (unsigned int i = 0; i < 8 * FW_TOKEN_BYTES; i++) {
		memcpy(b, a, sizeof(b));
		b[i / 8] ^= (uint8_t)(1u << i % 8);
		equal += fw_token_equal(a, b);
	}
	tap_is(equal, 0, "each bit counts");
}

int main(void)
{
	tap_begin();
	test_round_trips();
	test_fields();
	test_malformed();
	test_mutations();
	test_token();
	return tap_done();
}
