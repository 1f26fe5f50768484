-- +goose Up
alter table events attach partition events_2032 for values from ('2032-01-01') to ('2033-01-01');
