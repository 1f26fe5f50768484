-- +goose Up
create trigger orders_touch before update on orders for each row execute function suppress_redundant_updates_trigger();
create policy mine on orders using (true);
alter table orders enable row level security, force row level security;
