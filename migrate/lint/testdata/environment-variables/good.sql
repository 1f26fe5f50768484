-- +goose Up
comment on table orders is '${LANDLORD_NOTHING:-x}';
