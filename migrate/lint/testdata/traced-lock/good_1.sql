-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'alter table customers add column traced_c text';
    execute 'alter table customers add column traced_d text';
end $$;
-- +goose StatementEnd
