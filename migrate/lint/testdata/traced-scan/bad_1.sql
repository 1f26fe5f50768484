-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'create index traced_by_state on orders (tenant_id, state)';
end $$;
-- +goose StatementEnd
