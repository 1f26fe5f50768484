-- +goose Up
select set_config('work_mem', '64MB', false);
