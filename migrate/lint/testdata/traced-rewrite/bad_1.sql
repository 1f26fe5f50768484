-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'alter table orders add column traced_token uuid default gen_random_uuid()';
end $$;
-- +goose StatementEnd
