#!/bin/sh
# Entry point of the test image that test-docker.sh builds. Like the official image's it sets up PGDATA on first
# start from POSTGRES_PASSWORD and POSTGRES_INITDB_ARGS, and runs the server as the user postgres.
set -eu

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chown postgres:postgres "$PGDATA"
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
	: "${POSTGRES_PASSWORD:?is not set: it becomes the password of the superuser}"
	umask 077
	echo "$POSTGRES_PASSWORD" >/tmp/pwfile
	# The arguments are a list of words, as in the official image.
	# shellcheck disable=SC2086
	initdb -D "$PGDATA" -U "${POSTGRES_USER:-postgres}" --pwfile=/tmp/pwfile \
		--auth-local=trust --auth-host=scram-sha-256 ${POSTGRES_INITDB_ARGS:-}
	rm /tmp/pwfile
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
