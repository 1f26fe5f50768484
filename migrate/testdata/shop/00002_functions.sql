-- +goose Up
-- +goose StatementBegin
create function shout(t text) returns text language plpgsql as $body$
begin
    -- begin; commit; set search_path = nowhere;
    return upper(t) || '!';
end;
$body$;
-- +goose StatementEnd

-- +goose StatementBegin
create function twice(t text) returns text language sql
begin atomic
    select case when t is null then null else t || t end;
end;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
begin
    perform shout('hello');
end $$
-- +goose StatementEnd

-- +goose Down
drop function twice(text);
drop function shout(text);
