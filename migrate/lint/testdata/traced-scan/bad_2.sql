-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'update orders set state = ''open''';
end $$;
-- +goose StatementEnd
