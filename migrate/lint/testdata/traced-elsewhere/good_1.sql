-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'create type traced_mood as enum (''a'')';
end $$;
-- +goose StatementEnd
