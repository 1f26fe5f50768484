-- +goose Up
-- +goose StatementBegin
do $$ begin
    execute 'comment on table orders is ''x''';
end $$;
-- +goose StatementEnd
