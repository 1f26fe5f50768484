-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'alter table public.tiny add column if not exists traced_e text';
end $$;
-- +goose StatementEnd
