-- +goose Up
-- +goose ENVSUB ON
comment on table orders is '${LANDLORD_NOTHING:-x}';
-- +goose ENVSUB OFF
