-- Each statement works on a desk and stops a fleet.
-- +goose Up
alter table orders add column token uuid not null default gen_random_uuid();
alter table orders alter column note set not null;
create index orders_by_note on orders (tenant_id, note);
update orders set total = 0;
alter table orders drop column total;

-- +goose Down
