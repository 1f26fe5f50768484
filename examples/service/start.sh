#!/usr/bin/env bash
# Starts the service on local servers, with a customer in each of the three models: acme, bigco and bank. It can be started again;
# `bin/landlord dev down --purge` takes the servers away. SERVICE_FOLDER puts all that it makes into another folder than the module's.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD folder=$(cd "${SERVICE_FOLDER:-.}" && pwd)

go build -o "$folder/bin/" ./cmd/landlord ./examples/service
cd "$folder"
export LANDLORD_MIGRATIONS="$root/examples/service/migrations"
bin/landlord dev up
bin/landlord init
for tenant in acme:shared bigco:schema bank:database; do
    slug=${tenant%%:*} model=${tenant##*:}
    bin/landlord tenant show "$slug" >/dev/null 2>&1 || bin/landlord tenant add "$slug" --model "$model"
done
bin/landlord migrate up

address=${SERVICE_ADDR:-localhost:8080}
cat <<END

Try it:
  curl -s acme.localhost:${address##*:}/projects -d '{"name": "Move house"}'
  curl -s bank.localhost:${address##*:}/projects          # another customer, in a database of its own: nothing of acme's

END
export LANDLORD_CATALOG="file:$PWD/.landlord/secrets/catalog.dsn" LANDLORD_KEYS="file:$PWD/.landlord/secrets/seal.keys"
exec bin/service
