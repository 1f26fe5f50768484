-- Takes a while in each home, as if there were much to do: long enough to be killed in the middle.
-- +goose Up
select pg_sleep(2);
alter table orders add column reference text;

-- +goose Down
alter table orders drop column reference;
