# shellcheck shell=bash
# What t/run and t/run-17 share: packages, a copy of the source to test, and tests
# counted. The repository is $repo; logs go to $work.

passed=0 failed=0 skipped=0
failures=() # what is said of them at the end, where a reader of a long log looks

say()
{
    printf '\n==== %s\n' "$*"
}

# Count one failure, of what prints no TAP of its own.
fail()
{
    echo "not ok - $1"
    failures+=("not ok - $1")
    failed=$((failed + 1))
}

missing_packages()
{
    local package
    for package in $("$repo/t/deps"; "$repo/lab/deps"; "$repo/bench/deps"); do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
            grep -q 'ok installed' || echo "$package"
    done | sort -u
}

# Debian's postgresql package would create and start a cluster of its own.
no_default_cluster()
{
    local conf=/etc/postgresql-common/createcluster.conf
    [ -e "$conf" ] && return
    mkdir -p "$(dirname "$conf")"
    echo 'create_main_cluster = false' >"$conf"
}

install_packages()
{
    local packages
    packages=$(missing_packages)
    [ -z "$packages" ] && return
    say "installing: ${packages//$'\n'/ }"
    no_default_cluster
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    apt-get update -q &&
        apt-get install -q -y --no-install-recommends $packages ||
        { echo "t/run: could not install $packages" >&2; exit 1; }
}

# The repository's files, in a directory that the postgres user can read.
copy_source()
{
    git -C "$repo" ls-files -z --cached --others --exclude-standard |
        (cd "$repo" && xargs -0 cp --parents -a -t "$1") 2>/dev/null
}

# Count the TAP that the command called NAME printed to FILE; STATUS is the command's.
# A program that died without a failed test counts as one.
count_tap()
{
    local name=$1 file=$2 status=$3 ok bad skip
    # a digit right behind: prove's own "ok   812 ms" is no test
    skip=$(grep -cE '^(ok [0-9].*# SKIP|1\.\.0 # SKIP)' "$file")
    ok=$(($(grep -cE '^ok [0-9]' "$file") - $(grep -cE '^ok [0-9].*# SKIP' "$file")))
    bad=$(grep -cE '^not ok [0-9]' "$file")
    if ((status != 0 || bad > 0)); then
        failures+=("$name: status $status" "$(grep -A 4 -E '^not ok [0-9]' "$file" | head -n 50)")
    fi
    ((bad == 0 && status != 0)) && bad=1
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

# Run a command that prints TAP, showing it and counting it.
tap()
{
    local name=$1 log status
    shift
    log=$work/$(tr -c 'a-z0-9\n' _ <<<"$name").log
    say "$name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    count_tap "$name" "$log" "$status"
}

# Add the counts of a run of NAME, whose last lines LOG holds. One without died.
count_run()
{
    local name=$1 log=$2 counts
    read -ra counts < <(tail -n 1 "$log" | grep -E '^[0-9]+ passed, ' ||
        echo 0 passed, 1 failed, 0 skipped)
    passed=$((passed + counts[0])) failed=$((failed + counts[2])) skipped=$((skipped + counts[4]))
    ((counts[2] == 0)) || failures+=("$name:" "$(awk '/^==== failed/ { text = ""; on = 1; next }
        /^==== / { on = 0 } on { text = text $0 "\n" } END { printf "%s", text }' "$log")")
}

# Run a command that is one test.
check()
{
    local name=$1
    shift
    say "$name"
    if "$@"; then
        echo "ok - $name"
        passed=$((passed + 1))
    else
        fail "$name"
    fi
}

# What failed, the last line, and whether all is well.
summary()
{
    if ((failed > 0)); then
        say 'failed'
        printf '%s\n' "${failures[@]}"
    fi
    say 'all tests'
    echo "$passed passed, $failed failed, $skipped skipped"
    ((failed == 0 && passed > 0))
}
