#!/usr/bin/env bash
# Runs the tests against PostgreSQL in Docker, through testcontainers-go. Arguments go to `go test`; the default is
# the whole module.
#
# Where a Docker daemon answers and its image can be had, that is all. Elsewhere, as root on Debian, everything is
# made from Debian's packages: the daemon (one of our own, with its data in .cache and gone when the tests are over)
# and an image with PostgreSQL 17 that behaves like the official one. No image registry is needed then.
set -euo pipefail
cd "$(dirname "$0")/.."

OWN_IMAGE=landlord-test-postgres:17-$(cat scripts/test-docker.sh scripts/docker-entrypoint.sh | sha256sum | cut -c 1-8)
SUITE=trixie # its PostgreSQL is 17

say() { echo "test-docker: $*" >&2; }
die() { say "$*"; exit 1; }

need() { # program package...
	local program=$1
	shift
	command -v "$program" >/dev/null && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		die "$program is missing; install it (Debian: apt-get install $*), or run this as root on Debian"
	fi
	say "installing Debian's $*"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# start_daemon runs a Docker daemon that shares nothing with one of the machine's.
start_daemon() {
	[ "$(id -u)" = 0 ] || die "no Docker daemon answers, and only root can start one; start it, or run this as root"
	need dockerd docker.io iptables
	run=$(mktemp -d /tmp/landlord-docker.XXXXXX)
	export DOCKER_HOST="unix://$run/docker.sock"
	mkdir -p .cache/docker
	dockerd --host "$DOCKER_HOST" --data-root "$PWD/.cache/docker" --exec-root "$run/exec" \
		--pidfile "$run/pid" >"$run/log" 2>&1 &
	daemon=$!
	for _ in $(seq 150); do
		docker info >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.2
	done
	tail -n 20 "$run/log" >&2
	die "dockerd cannot run here (its log is above); a container or sandbox may forbid it. Nothing was tested"
}

run='' daemon='' root=''
clean_up() {
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	# What may still be mounted there is left alone.
	[ -z "$run" ] || rm -rf --one-file-system "$run" || true
	[ -z "$root" ] || rm -rf --one-file-system "$root" "$root.log" || true
}
trap clean_up EXIT

# build_image makes $OWN_IMAGE from Debian's packages alone.
build_image() {
	[ "$(id -u)" = 0 ] || die "the image cannot be pulled, and only root can build one; set LANDLORD_TEST_IMAGE to one you have"
	need debootstrap debootstrap
	say "building $OWN_IMAGE from Debian $SUITE (about a minute)"
	root=$(mktemp -d /var/tmp/landlord-image.XXXXXX)
	# A mirror set up for this machine serves its image too. The format is apt's, not the shell's.
	# shellcheck disable=SC2016
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 2>/dev/null | sed -n 1p)
	if ! debootstrap --variant=minbase --include=postgresql-17 "$SUITE" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1; then
		tail -n 20 "$root.log" >&2
		die "debootstrap failed (its log is above)"
	fi
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale} \
		"$root"/var/lib/postgresql/17
	install -m 755 scripts/docker-entrypoint.sh "$root/usr/local/bin/docker-entrypoint.sh"
	tar -C "$root" -c . | docker import \
		--change 'ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PGDATA=/var/lib/postgresql/data' \
		--change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["postgres"]' \
		--change 'EXPOSE 5432' - "$OWN_IMAGE" >/dev/null
}

need docker docker.io
docker info >/dev/null 2>&1 || start_daemon

if [ -z "${LANDLORD_TEST_IMAGE:-}" ]; then
	image=postgres:17-alpine
	if ! docker image inspect "$image" >/dev/null 2>&1 && ! docker pull -q "$image" >/dev/null 2>&1; then
		image=$OWN_IMAGE
		docker image inspect "$image" >/dev/null 2>&1 || build_image
		# Where one image cannot be pulled, neither can that of testcontainers' reaper.
		export TESTCONTAINERS_RYUK_DISABLED="${TESTCONTAINERS_RYUK_DISABLED:-true}"
	fi
	export LANDLORD_TEST_IMAGE=$image
fi
scripts/ensure-pgbouncer.sh
say "testing with image $LANDLORD_TEST_IMAGE"
[ $# -gt 0 ] || set -- ./...
LANDLORD_TEST_DSN='' LANDLORD_TEST_DOCKER=must go test -timeout 15m "$@"
