-- +goose Up
alter table tiny add constraint f foreign key (tenant_id, name) references customers (tenant_id, email) not valid;
