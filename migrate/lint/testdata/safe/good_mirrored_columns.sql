-- +goose Up
alter table orders add column remark varchar(50);
call landlord.mirror_column('orders', 'note', 'remark');
call landlord.mirror_column('customers', 'name', 'age', forward => 'length(name)', back => 'repeat(''x'', age)');
call landlord.unmirror_column('customers', 'name', 'age');
