#!/usr/bin/env bash
# Starts the service on local servers, with a customer in each of the three models: acme, bigco and bank. It can be started again;
# `bin/landlord dev down --purge` takes the servers away.
set -euo pipefail
cd "$(dirname "$0")/../.."

go build -o bin/ ./cmd/landlord
export LANDLORD_MIGRATIONS="$PWD/examples/service/migrations"
bin/landlord dev up
bin/landlord init
for tenant in acme:shared bigco:schema bank:database; do
    slug=${tenant%%:*} model=${tenant##*:}
    bin/landlord tenant show "$slug" >/dev/null 2>&1 || bin/landlord tenant add "$slug" --model "$model"
done
bin/landlord migrate up

cat <<'END'

Try it:
  curl -s acme.localhost:8080/projects -d '{"name": "Move house"}'
  curl -s bank.localhost:8080/projects          # another customer, in a database of its own: nothing of acme's

END
export LANDLORD_CATALOG="file:$PWD/.landlord/secrets/catalog.dsn" LANDLORD_KEYS="file:$PWD/.landlord/secrets/seal.keys"
exec go run ./examples/service
