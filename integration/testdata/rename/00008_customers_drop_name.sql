-- landlord: phase=contract
-- +goose Up
-- Nobody knows the old column any more.
call landlord.unmirror_column('customers', 'name', 'full_name');
alter table customers drop constraint customers_full_name_given, drop column name;
