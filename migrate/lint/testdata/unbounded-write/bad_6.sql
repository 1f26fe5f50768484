-- +goose Up
-- +goose StatementBegin
do $$
begin
    if true then
        update orders set note = 'x';
    end if;
end $$;
-- +goose StatementEnd
