-- +goose Up
alter table events attach partition events_2031 for values from ('2031-01-01') to ('2032-01-01');
