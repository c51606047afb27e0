// SPDX-License-Identifier: PostgreSQL
/*
 * smc_shim.c - to be preloaded: stream sockets of IPv4 are made as AF_SMC, as
 * smc_run of smc-tools does it.  All else stays the same: addresses are IPv4's.
 */
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#define AF_SMC_FAMILY 43

int socket(int domain, int type, int protocol)
{
	static int (*next)(int, int, int);
	int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (next == NULL)
		next = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
	if (next == NULL)
		abort();
	if (domain == AF_INET && kind == SOCK_STREAM &&
	    (protocol == 0 || protocol == IPPROTO_TCP)) {
		domain = AF_SMC_FAMILY;
		protocol = 0;
	}
	return next(domain, type, protocol);
}
