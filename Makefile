# SPDX-License-Identifier: PostgreSQL
#
# pg_fastwake: library, extension, demo, tests.
#
#	make				library and extension
#	make kmod			[KDIR=/lib/modules/.../build] -> kmod/fastwake.ko, fastwake_ib.ko
#	make install		[PREFIX=/usr/local] [DESTDIR=] [PG_CONFIG=pg_config]
#	make demo			[LAB=1]
#	make bench			[QUICK=1]
#	make test
#	make test-17		with PostgreSQL 17, Debian 13's
#	make chaos			[DURATION=60] [TRANSPORT=shm|rdma] [SEED=] [CLIENTS=200] [RATE=]

MODULE_big = pg_fastwake
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard pg_fastwake/*.c)))
EXTENSION = pg_fastwake/pg_fastwake
DATA = $(sort $(wildcard pg_fastwake/*--*.sql))
PGFILEDESC = "pg_fastwake - physical replication over RDMA"

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --temp-instance=tmp_check_regress --temp-config=t/regress.conf
TAP_TESTS = 1

# Debian builds PostgreSQL with LLVM; bitcode of an extension without hot SQL
# functions would only make builds need clang.
override with_llvm = no

PG_CPPFLAGS = -I$(srcdir)/core/include -I$(libpq_srcdir)
# clang does not know all that PostgreSQL, built by gcc, has in flags and headers.
CLANG_CFLAGS = -Wno-ignored-optimization-argument -Wno-unknown-warning-option \
	-Wno-ignored-attributes
PG_CFLAGS = $(if $(WERROR),-Werror) $(if $(findstring clang,$(CC)),$(CLANG_CFLAGS))
SHLIB_LINK = core/libfastwake.a -lrdmacm -libverbs -lnl-3 -lisal $(libpq)

EXTRA_CLEAN = demo-results bench-results bench/src/build tmp_check tmp_check_regress

PG_CONFIG ?= pg_config
PREFIX ?= /usr/local

# Targets that install their own prerequisites must work before pg_config does.
ifneq ($(shell command -v $(PG_CONFIG)),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# In the extension's own build CFLAGS is PostgreSQL's; not in the library's.
CORE_MAKE = env -u CFLAGS -u CPPFLAGS -u LDFLAGS $(MAKE) -C core

$(shlib): core/libfastwake.a
$(OBJS): $(wildcard pg_fastwake/*.h) core/include/fastwake.h

all: core
core:
	$(CORE_MAKE) all
core/libfastwake.a: core
	@:

install: install-core
install-core: core
	$(CORE_MAKE) install PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)'

clean: clean-core
clean-core:
	$(CORE_MAKE) clean
clean: clean-kmod
endif

# The module needs neither PostgreSQL nor the library.
KMOD_MAKE = env -u CFLAGS -u CPPFLAGS -u LDFLAGS $(MAKE) -C kmod

kmod:
	$(KMOD_MAKE) all
clean-kmod:
	$(KMOD_MAKE) clean

# The project's own formatting: clang-format for the library, what pgindent runs
# (Debian's pg-bsd-indent) for the extension.
INDENT_FLAGS = -bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 \
	-l79 -lp -lpl -nip -npro -sac -tpg -ts4 -Upg_fastwake/typedefs.list
CORE_FILES = $(wildcard core/include/*.h core/src/*.[ch] core/test/*.[ch] \
	core/cli/*.[ch] core/fuzz/*.[ch] core/verbs/*.[ch] \
	core/verbs/test/*.[ch] bench/src/*.[ch])
# trace.h is written in the form that the kernel's macros ask for.
KMOD_FILES = $(filter-out kmod/trace.h kmod/fastwake.mod.c kmod/fastwake_ib.mod.c, \
	$(wildcard kmod/*.[ch] kmod/uapi/*.h kmod/test/*.[ch]))
PG_FILES = $(wildcard pg_fastwake/*.[ch])

indent:
	clang-format -i $(CORE_FILES) $(KMOD_FILES)
	for f in $(PG_FILES); do \
		pg_bsd_indent $(INDENT_FLAGS) <$$f >$$f.new && \
			{ cmp -s $$f $$f.new || cp $$f.new $$f; } && rm $$f.new || exit; \
	done
indent-check:
	clang-format --dry-run -Werror $(CORE_FILES) $(KMOD_FILES)
	for f in $(PG_FILES); do \
		pg_bsd_indent $(INDENT_FLAGS) <$$f | diff -u $$f - || exit; \
	done

demo:
	bench/demo

bench:
	QUICK='$(QUICK)' bench/bench

test:
	t/run
test-17:
	t/run-17

# Against headers alone, of a version whose server is not there.
headers-check:
	for f in $(wildcard pg_fastwake/*.c); do \
		$(CC) -fsyntax-only -O2 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
			-Wno-missing-field-initializers -Wdeclaration-after-statement -Werror \
			-D_GNU_SOURCE -Icore/include -I$(PG_HEADERS) -I$$(pg_config --includedir) \
			$$f || exit; \
	done

# A campaign of faults; the seed it prints repeats it.
chaos:
	DURATION='$(or $(DURATION),60)' TRANSPORT='$(TRANSPORT)' SEED='$(SEED)' \
		CLIENTS='$(CLIENTS)' RATE='$(RATE)' BREAK='$(BREAK)' t/run chaos

.PHONY: core install-core clean-core kmod clean-kmod indent indent-check demo bench test test-17 headers-check \
	chaos
