#!/usr/bin/env bash
# Makes sure, for the tests, that PgBouncer is on this machine. As root on Debian it installs Debian's package, without
# starting its service, and says so. Elsewhere the tests that need it are skipped, and say what to install
# (LANDLORD_REQUIRE_PGBOUNCER=1 makes them fail instead). The places are those that internal/pglocal looks in.
set -euo pipefail

[ -z "${LANDLORD_PGBOUNCER:-}" ] || exit 0
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0

echo "ensure-pgbouncer: installing Debian's package pgbouncer (as root; its service is not started)" >&2
policy=/usr/sbin/policy-rc.d # what says whether a package may start its service
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null
if [ -d /run/systemd/system ]; then
	systemctl disable --quiet pgbouncer.service # nor at the next boot
fi
