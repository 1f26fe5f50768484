-- landlord: phase=expand
-- +goose Up
-- The new column stands beside the old one. Whoever writes one of them writes both.
alter table customers
    add column full_name text,
    add constraint customers_full_name_given check (full_name is not null) not valid;
call landlord.mirror_column('customers', 'name', 'full_name');

-- +goose Down
call landlord.unmirror_column('customers', 'name', 'full_name');
alter table customers drop column full_name;
