#!/usr/bin/env bash
# Makes sure that PostgreSQL's server programs are on this machine, for `make demo` and `make test`. As root on Debian
# it installs Debian's package and says so; anybody else is told what to install. The places are those that
# internal/pglocal looks in.
set -euo pipefail

# Somebody chose their own: landlord will say whether it fits.
[ -z "${LANDLORD_PG_BIN:-}" ] || exit 0
command -v initdb >/dev/null && exit 0
for initdb in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /usr/libexec/postgresql*/initdb \
	/usr/local/pgsql/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb \
	/home/linuxbrew/.linuxbrew/opt/postgresql*/bin/initdb /Applications/Postgres.app/Contents/Versions/*/bin/initdb; do
	[ ! -x "$initdb" ] || exit 0
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "ensure-postgres: no PostgreSQL server programs here; installing Debian's package postgresql (as root)" >&2
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
	exit 0
fi
cat >&2 <<'HINT'
ensure-postgres: no PostgreSQL server programs (initdb, postgres, pg_ctl) here. Install version 15 or newer:
  Debian, Ubuntu  sudo apt-get install postgresql
  macOS           brew install postgresql@17
or set LANDLORD_PG_BIN to the folder that holds them. Only root on Debian gets them installed by make.
`make test-docker` runs the tests against PostgreSQL in Docker.
HINT
exit 1
