-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'alter table customers add column traced_a text';
    execute 'alter table tiny add column traced_b text';
end $$;
-- +goose StatementEnd
