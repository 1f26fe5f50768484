-- +goose Up
create table bookings (tenant_id uuid, id bigint, room int, during tstzrange, primary key (tenant_id, id),
    exclude using gist (tenant_id with =, room with =, during with &&));
