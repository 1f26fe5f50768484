-- +goose Up
alter table orders add constraint apart exclude using gist (tenant_id with =, note with =);
