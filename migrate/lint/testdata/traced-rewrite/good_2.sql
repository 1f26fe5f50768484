-- landlord: allow=traced-rewrite every home has at most a thousand orders
-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'alter table orders add column traced_waived uuid default gen_random_uuid()';
end $$;
-- +goose StatementEnd
