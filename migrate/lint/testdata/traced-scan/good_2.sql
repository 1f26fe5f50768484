-- landlord: allow=traced-scan no home has more than a thousand orders
-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'update orders set state = ''open'' where code = ''x''';
end $$;
-- +goose StatementEnd
