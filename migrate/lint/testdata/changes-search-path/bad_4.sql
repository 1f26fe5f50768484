-- +goose Up
-- +goose StatementBegin
do $$ begin set local search_path = app; end $$;
-- +goose StatementEnd
