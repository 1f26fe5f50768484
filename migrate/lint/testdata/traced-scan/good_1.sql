-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'alter table orders validate constraint orders_total';
end $$;
-- +goose StatementEnd
