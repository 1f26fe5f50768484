-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'create schema if not exists traced';
end $$;
-- +goose StatementEnd
