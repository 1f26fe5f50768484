-- +goose Up
create table events_2050 partition of events for values from ('2050-01-01') to ('2051-01-01');
