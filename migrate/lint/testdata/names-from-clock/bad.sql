-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute format('create table events_%s partition of events default', to_char(now(), 'YYYY'));
end $$;
-- +goose StatementEnd
