-- +goose Up
alter policy landlord_fence on orders using (true);
