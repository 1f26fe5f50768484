-- +goose Up
-- +goose StatementBegin
create function f() returns bigint language sql as $$ select count(*) from pg_class $$;
-- +goose StatementEnd
