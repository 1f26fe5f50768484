-- +goose Up
-- +goose StatementBegin
do $$ begin
    if not exists (select from pg_roles where rolname = 'reporting') then
        create role reporting;
    end if;
end $$;
-- +goose StatementEnd
