-- +goose Up
-- +goose StatementBegin
do $$ begin
    perform from pg_catalog.pg_type where typname = 'mood';
end $$;
-- +goose StatementEnd
