#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# headers.sh - the public headers compile alone, as C and C++; the shared
# library exports what its own declares, no more, no less; each function has a man
# page. Run by make test.
set -u
cd "$(dirname "$0")/.." || exit 1
: "${CC:=cc}" "${CXX:=c++}" "${FASTWAKE_LIB:=./libfastwake.so.1}"
header=include/fastwake.h
strict='-Wall -Wextra -Wshadow -Wconversion -pedantic -Werror -fsyntax-only'
count=0
failed=0

result() { # STATUS NAME
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		failed=1
	fi
}

compiles() { # COMPILER LANGUAGE STANDARD
	name="$header alone as $3 with $1"
	if ! command -v "$1" >/dev/null; then
		count=$((count + 1))
		echo "ok $count # SKIP no $1"
		return
	fi
	# shellcheck disable=SC2086
	"$1" -x "$2" -std="$3" $strict "$header"
	result $? "$name"
}

# The function names that the header declares.
declared() {
	grep -oE '\bfastwake_[a-z_]+\(' "$header" | tr -d '(' | sort -u
}

exported() {
	nm -D --defined-only "$FASTWAKE_LIB" |
		awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' | sort -u
}

documented() {
	for name in $(declared); do
		[ -e "man/$name.3" ] || echo "# no man page: $name"
	done
}

# Last the library's own, which the rest is about.
for header in ../kmod/uapi/fastwake.h include/fastwake.h; do
	for std in c99 c11 c17; do
		compiles "$CC" c $std
	done
	for std in c++11 c++17; do
		compiles "$CXX" c++ $std
	done
done

extra=$(exported | grep -vxF "$(declared)")
[ -z "$extra" ]
result $? "no function is exported that the header does not declare"
missing=$(declared | grep -vxF "$(exported)")
[ -z "$missing" ]
result $? "every declared function is exported"
echo "$extra $missing" | sed -n 's/^\(.*[^ ].*\)$/# &/p'

pages=$(documented)
[ -z "$pages" ]
result $? "every declared function has a man page"
[ -z "$pages" ] || echo "$pages"

broken=$(grep -l '^\.so ' man/*.[137] | while read -r page; do
	target=$(sed -n 's|^\.so man[37]/||p' "$page")
	[ -e "man/$target" ] || echo "# $page: no page $target"
done)
[ -z "$broken" ]
result $? "every alias of a man page has its page"
[ -z "$broken" ] || echo "$broken"

if command -v mandoc >/dev/null; then
	# shellcheck disable=SC2046
	mandoc -T lint -W warning $(grep -L '^\.so ' man/*.[137])
	result $? "mandoc finds nothing wrong with the man pages"
else
	count=$((count + 1))
	echo "ok $count # SKIP no mandoc"
fi
echo "1..$count"
exit $failed
