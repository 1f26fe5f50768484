-- +goose Up
-- +goose StatementBegin
do $$
begin
    if not exists (select 1 from pg_tables where tablename = 'a') then
        create table a (tenant_id uuid);
    end if;
end $$;
-- +goose StatementEnd
