-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'alter table orders add column traced_plain uuid';
end $$;
-- +goose StatementEnd
