-- +goose Up
-- +goose StatementBegin
do $$
begin
    if to_regclass('a') is null and not exists (select from pg_tables where schemaname = current_schema() and tablename = 'a') then
        create table a (tenant_id uuid);
    end if;
end $$;
-- +goose StatementEnd
