-- +goose Up
alter policy mine on orders rename to ours;
